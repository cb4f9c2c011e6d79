"""Threads, processes, asyncio and what they talk through."""

from tests.corpus.program import Program

WORKER = {
    "worker.py": "import os\ndef double(x): return 2 * x\ndef where(_): return [os.getcwd(), os.environ.get('CORPUS_SET')]\n"
}
IN_A_FILE = """
import json, multiprocessing, os, sys

LEVEL = "set at the top"

def double(x):
    return [2 * x, LEVEL, __name__, sys.argv == [__file__], os.environ.get("CORPUS_SET")]

if __name__ == "__main__":
    with multiprocessing.get_context("METHOD").Pool(1) as pool:
        print(json.dumps({"seen": pool.map(double, [1, 2])}))
"""
EXECUTOR = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import worker
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("METHOD")) as pool:
    seen = [list(pool.map(worker.double, [1, 2, 3])), pool.submit(worker.where, 0).result()]
{"scores": [], "seen": seen}
"""

PROGRAMS = [
    Program(
        "threads_as_they_are",
        """
        import _thread, threading
        main = threading.main_thread()
        seen = [threading.current_thread() is main, main.ident == threading.get_ident() == _thread.get_ident(), main.name, main.daemon]
        seen += [[thread.name for thread in threading.enumerate()], threading.active_count(), _thread._count(), main.is_alive()]
        seen += [type(main).__name__, repr(threading.local().__dict__), threading.stack_size()]
        started = []
        for _ in range(2):
            thread = threading.Thread(target=lambda: started.append(threading.current_thread().name))
            thread.start(); thread.join()
        {"scores": [], "seen": [*seen, started]}
        """,
    ),
    Program(
        "threads_that_work",
        """
        import queue, threading
        todo, done = queue.Queue(), queue.Queue()
        def work():
            while (item := todo.get()) is not None:
                done.put(item * item)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        for n in range(20): todo.put(n)
        for _ in threads: todo.put(None)
        for thread in threads: thread.join()
        {"scores": [], "seen": sorted(done.get() for _ in range(20))}
        """,
    ),
    Program(
        "threads_that_wait_for_one_another",
        """
        import threading
        barrier, event, condition, semaphore = threading.Barrier(3), threading.Event(), threading.Condition(), threading.Semaphore(0)
        order = []
        def work():
            barrier.wait(); event.wait()
            with condition: order.append(1); condition.notify()
            semaphore.release()
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads: thread.start()
        barrier.wait(); event.set()
        for _ in threads: semaphore.acquire()
        timer = threading.Timer(0.01, order.append, [2]); timer.start(); timer.join()
        for thread in threads: thread.join()
        {"scores": [], "seen": order}
        """,
        seen=[1, 1, 2],
    ),
    Program(
        "a_pool_of_threads",
        """
        from concurrent.futures import ThreadPoolExecutor, as_completed
        import threading
        with ThreadPoolExecutor(2) as pool:
            seen = [list(pool.map(lambda n: n * n, range(5))), pool.submit(lambda: threading.current_thread().name).result()[:-1]]
        {"scores": [], "seen": seen}
        """,
    ),
    *(
        Program(
            f"a_pool_of_processes_by_{method}",
            EXECUTOR.replace("METHOD", method),
            {"CORPUS_SET": "set"},
            files=WORKER,
        )
        for method in ("fork", "spawn", "forkserver")
    ),
    *(
        Program(
            f"processes_of_a_file_by_{method}",
            IN_A_FILE.replace("METHOD", method),
            {"CORPUS_SET": "set"},
            file="many.py",
        )
        for method in ("fork", "spawn", "forkserver")
    ),
    Program(
        "multiprocessing_as_it_is",
        """
        import multiprocessing, os
        me = multiprocessing.current_process()
        seen = [me.name, me.daemon, me.pid == os.getpid(), me.exitcode, multiprocessing.parent_process(), multiprocessing.active_children()]
        seen += [multiprocessing.get_start_method(), multiprocessing.get_all_start_methods(), me.is_alive(), list(me._identity), sorted(me._config)]
        from multiprocessing import spawn
        seen += [os.fsdecode(spawn.get_executable()), sorted(spawn.get_preparation_data("x"))]
        {"scores": [], "seen": seen}
        """,
    ),
    Program(
        "processes_of_multiprocessing",
        """
        import multiprocessing, os, sys
        context = multiprocessing.get_context("fork")
        queue, value, lock = context.Queue(), context.Value("i", 0), context.Lock()
        def work(number):
            with lock: value.value += number
            queue.put([multiprocessing.current_process().name, multiprocessing.parent_process().pid == parent])
            sys.exit(number)
        parent = os.getpid()
        processes = [context.Process(target=work, args=(n,)) for n in (1, 2)]
        for process in processes: process.start()
        found = sorted(queue.get() for _ in processes)
        for process in processes: process.join()
        {"scores": [], "seen": [found, value.value, [process.exitcode for process in processes]]}
        """,
        seen=[[["ForkProcess-1", True], ["ForkProcess-2", True]], 3, [1, 2]],
    ),
    Program(
        "a_pipe_and_shared_memory",
        """
        import multiprocessing, os
        from multiprocessing import shared_memory
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        memory = shared_memory.SharedMemory(create=True, size=16)
        def work():
            memory.buf[:5] = b"hello"
            theirs.send({"from": "the child", "data": data})
        process = context.Process(target=work)
        process.start()
        seen = [ours.recv()]
        process.join()
        seen += [bytes(memory.buf[:5]).decode(), process.exitcode]
        memory.close(); memory.unlink()
        {"scores": [], "seen": seen}
        """,
        data={"a": 1},
    ),
    Program(
        "a_fork",
        """
        import os
        readable, writable = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writable, str(os.getppid()).encode())
            os._exit(7)
        found, status = os.waitpid(pid, 0)
        seen = [found == pid, os.waitstatus_to_exitcode(status), int(os.read(readable, 20)) == os.getpid()]
        {"scores": [], "seen": seen}
        """,
        seen=[True, 7, True],
    ),
    Program(
        "no_children_to_wait_for",
        """
        import os
        seen = []
        for wait in (os.wait, lambda: os.waitpid(-1, 0), lambda: os.waitpid(-1, os.WNOHANG)):
            try:
                seen.append(str(wait()))
            except ChildProcessError as problem:
                seen.append(problem.errno)
        {"scores": [], "seen": seen}
        """,
        seen=[10, 10, 10],
    ),
    Program(
        "hooks_of_forks",
        """
        import os
        seen = []
        os.register_at_fork(before=lambda: seen.append("before"), after_in_parent=lambda: seen.append("after"))
        if os.fork() == 0: os._exit(0)
        os.wait()
        {"scores": [], "seen": seen}
        """,
        seen=["before", "after"],
    ),
    Program(
        "subprocesses",
        """
        import subprocess, sys
        def run(*args, **settings):
            return subprocess.run(args if len(args) > 1 else args[0], capture_output=True, text=True, **settings)
        python = [sys.executable, "-c", "import os, sys; print(sys.argv, os.environ.get('CORPUS_SET'), sys.flags.utf8_mode); sys.exit(3)", "a b"]
        done = run(python)
        seen = [done.returncode, done.stdout, done.stderr, run("false", "x").returncode, run("echo $0; exit 4", shell=True).returncode]
        seen += [run("cat", "-", input="to the child").stdout, run("sh", "-c", "kill -9 $$").returncode, run("pwd", "-P").stdout]
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        seen += [process.communicate(b"through a pipe")[0].decode(), process.returncode]
        try:
            subprocess.run(["sleep", "100"], timeout=0.05)
        except subprocess.TimeoutExpired:
            seen.append("timed out")
        try:
            subprocess.run(["no-such-program-anywhere"])
        except FileNotFoundError as problem:
            seen.append(str(problem))
        try:
            subprocess.check_call(["false"])
        except subprocess.CalledProcessError as problem:
            seen.append(str(problem))
        {"scores": [], "seen": seen}
        """,
        {"CORPUS_SET": "set"},
    ),
    Program(
        "other_ways_to_start_processes",
        """
        import os, sys
        seen = [os.system("exit 5"), os.popen("echo by popen").read()]
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 6"], os.environ)
        seen.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        seen.append(os.spawnlp(os.P_WAIT, "sh", "sh", "-c", "exit 7"))
        {"scores": [], "seen": seen}
        """,
        seen=[1280, "by popen\n", 6, 7],
    ),
    Program(
        "orphans_come_to_the_run",
        """
        import os
        readable, writable = os.pipe()
        if os.fork() == 0:
            if os.fork() == 0:
                os.read(readable, 1)
                os._exit(9)
            os._exit(0)
        first = os.wait()[1]
        os.write(writable, b"x")
        {"scores": [], "seen": [first, os.waitstatus_to_exitcode(os.wait()[1])]}
        """,
        seen=[0, 9],
        linux=True,
    ),
    Program(
        "asyncio_as_it_is",
        """
        import asyncio, warnings
        warnings.simplefilter("ignore")
        policy = asyncio.get_event_loop_policy()
        async def main():
            loop = asyncio.get_running_loop()
            tasks = [asyncio.create_task(asyncio.sleep(0, n)) for n in range(3)]
            names = [task.get_name() for task in tasks]
            return [type(loop).__name__, loop.get_debug(), await asyncio.gather(*tasks), names, await asyncio.to_thread(lambda: "in a thread")]
        seen = [type(policy).__name__, asyncio.run(main()), asyncio.run(main())]
        try:
            asyncio.get_running_loop()
        except RuntimeError as problem:
            seen.append(str(problem))
        {"scores": [], "seen": seen}
        """,
    ),
    Program(
        "asyncio_processes_and_timers",
        """
        import asyncio, signal, sys
        async def main():
            process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "print(input()[::-1])", stdin=-1, stdout=-1)
            out, _ = await process.communicate(b"abc\\n")
            heard = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
            signal.raise_signal(signal.SIGUSR1)
            await asyncio.wait_for(heard.wait(), 5)
            try:
                await asyncio.wait_for(asyncio.sleep(100), 0.01)
            except asyncio.TimeoutError:
                return [out.decode(), process.returncode, "timed out"]
        {"scores": [], "seen": asyncio.run(main())}
        """,
        seen=["cba\n", 0, "timed out"],
    ),
    Program(
        "asyncio_streams",
        """
        import asyncio
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()
        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"hello\\n")
                answer = await reader.read()
                writer.close()
            return answer.decode()
        {"scores": [], "seen": asyncio.run(main())}
        """,
        seen="HELLO\n",
    ),
    Program(
        "sockets",
        """
        import select, socket, threading
        one, other = socket.socketpair()
        one.sendall(b"pair")
        seen = [other.recv(10).decode(), socket.getdefaulttimeout()]
        server = socket.create_server(("127.0.0.1", 0))
        def serve():
            connection, _ = server.accept()
            with connection: connection.sendall(connection.recv(100)[::-1])
        thread = threading.Thread(target=serve); thread.start()
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"backwards")
            seen.append(client.recv(100).decode())
        thread.join()
        one.sendall(b"x")
        ready = select.select([one, other], [], [], 0)[0]
        poll = select.poll(); poll.register(other, select.POLLIN)
        seen += [ready == [other], poll.poll(0) == [(other.fileno(), select.POLLIN)]]
        {"scores": [], "seen": seen}
        """,
        seen=["pair", None, "sdrawkcab", True, True],
    ),
    Program(
        "epoll_and_others",
        """
        import os, select, selectors
        readable, writable = os.pipe()
        epoll = select.epoll()
        epoll.register(readable, select.EPOLLIN)
        seen = [epoll.poll(0)]
        os.write(writable, b"x")
        seen += [epoll.poll(1) == [(readable, select.EPOLLIN)], selectors.DefaultSelector.__name__]
        pid = os.fork()
        if pid == 0: os._exit(0)
        descriptor = os.pidfd_open(pid)
        seen += [len(select.select([descriptor], [], [], 5)[0]), os.waitpid(pid, 0)[1]]
        {"scores": [], "seen": seen}
        """,
        seen=[[], True, "EpollSelector", 1, 0],
        linux=True,
    ),
    Program(
        "an_http_server",
        """
        import http.server, threading, urllib.request
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200); self.end_headers(); self.wfile.write(self.path.encode())
            def log_message(self, *args): print("asked for", self.path)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        text = opener.open(f"http://127.0.0.1:{server.server_port}/a").read().decode()
        server.shutdown()
        {"scores": [], "seen": text}
        """,
        seen="/a",
        stdout="asked for /a\n",
    ),
    Program(
        "databases",
        """
        import sqlite3
        with sqlite3.connect("kept.db") as database:
            database.execute("create table t (a, b)")
            database.executemany("insert into t values (?, ?)", [(1, "x"), (2, "é")])
        database.close()
        seen = sqlite3.connect("kept.db").execute("select * from t order by a").fetchall()
        seen += [sqlite3.connect(":memory:").execute("select 1 + 1").fetchone()]
        import os
        os.remove("kept.db")
        {"scores": [], "seen": [*seen, sqlite3.threadsafety]}
        """,
    ),
    Program(
        "tls_and_hashes",
        """
        import hashlib, hmac, ssl, zlib
        context = ssl.create_default_context()
        seen = [context.verify_mode.name, context.check_hostname, context.minimum_version.name, ssl.OPENSSL_VERSION]
        seen += [hashlib.new(name, b"x").hexdigest() for name in ("md5", "sha1", "sha256", "blake2b", "sha3_256")]
        seen += [hmac.new(b"key", b"x", "sha256").hexdigest(), zlib.crc32(b"x"), hashlib.scrypt(b"p", salt=b"s", n=2, r=1, p=1).hex()[:8]]
        {"scores": [], "seen": [*seen, hashlib.pbkdf2_hmac("sha256", b"p", b"s", 10).hex()]}
        """,
    ),
    Program(
        "shared_maps_of_memory",
        """
        import mmap, os
        shared = mmap.mmap(-1, 4096)
        if os.fork() == 0:
            shared[:5] = b"child"
            os._exit(0)
        os.wait()
        with open("mapped", "w+b") as file:
            file.write(b"x" * 100); file.flush()
            with mmap.mmap(file.fileno(), 0) as mapped: mapped[:3] = b"abc"
        {"scores": [], "seen": [bytes(shared[:5]).decode(), open("mapped").read()[:5]]}
        """,
        seen=["child", "abcxx"],
        leaves={"mapped": "abc" + "x" * 97},
    ),
    Program(
        "callbacks_from_c",
        """
        import ctypes
        Compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
        numbers = (ctypes.c_int * 5)(5, 1, 4, 2, 3)
        ctypes.CDLL(None).qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), Compare(lambda a, b: a[0] - b[0]))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.open(b"/nowhere/at/all", 0)
        {"scores": [], "seen": [list(numbers), ctypes.get_errno()]}
        """,
        seen=[[1, 2, 3, 4, 5], 2],
    ),
]
