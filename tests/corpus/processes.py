"""What the system says of the process: identity, signals, descriptors, limits; and what signals do to it."""

from tests.corpus.program import Program

DESCRIPTORS = """
import fcntl, os, stat
def kind(number):
    mode = os.fstat(number).st_mode
    kinds = {"pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK, "file": stat.S_ISREG, "device": stat.S_ISCHR, "folder": stat.S_ISDIR}
    name = next((name for name, test in kinds.items() if test(mode)), "other")
    link = os.readlink(f"/proc/self/fd/{number}").partition(":")[0]
    return [name, link if "/" in link and name != "file" or "memfd" in link else ""]
def status(*names):
    lines = dict(line.rstrip("\\n").split(":", 1) for line in open("/proc/self/status"))
    return {name: " ".join(lines.get(name, "none").split()) for name in names}
numbers = sorted(map(int, os.listdir("/proc/self/fd")))
numbers = [number for number in numbers if os.path.lexists(f"/proc/self/fd/{number}")]
"""

PROGRAMS = [
    Program(
        "folder_and_umask",
        """
        import os
        from pathlib import Path
        previous = os.umask(0o22)
        {"scores": [], "seen": [os.getcwd(), str(Path.cwd()), os.path.abspath("x"), previous, os.readlink("/proc/self/cwd"), os.readlink("/proc/self/root")]}
        """,
        linux=True,
    ),
    Program(
        "modes_of_new_files",
        """
        import os, stat
        open("made", "w").close()
        os.mkdir("made_folder")
        seen = [stat.filemode(os.stat(name).st_mode) for name in ("made", "made_folder")]
        os.remove("made"); os.rmdir("made_folder")
        {"scores": [], "seen": seen}
        """,
    ),
    Program(
        "dispositions_of_signals",
        """
        import signal
        def shown(number):
            handler = signal.getsignal(number)
            return handler.name if isinstance(handler, signal.Handlers) else repr(handler)
        {"scores": [], "seen": {int(number): shown(number) for number in sorted(signal.valid_signals())}}
        """,
    ),
    Program(
        "masks_of_signals",
        """
        import faulthandler, signal
        seen = [sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), sorted(signal.sigpending()), signal.set_wakeup_fd(-1)]
        seen += [signal.getitimer(kind) for kind in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)]
        {"scores": [], "seen": [*seen, signal.alarm(0), faulthandler.is_enabled()]}
        """,
        seen=[[], [], -1, [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], 0, False],
    ),
    Program(
        "what_the_system_says_of_signals",
        DESCRIPTORS
        + '{"scores": [], "seen": status("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "Threads", "TracerPid")}',
        linux=True,
    ),
    Program(
        "what_the_system_says_of_rights",
        DESCRIPTORS
        + 'names = ("Name", "Umask", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Cpus_allowed", "CoreDumping")\n'
        + '{"scores": [], "seen": status(*names)}',
        linux=True,
    ),
    Program(
        "signals_of_a_child",
        """
        import subprocess, sys
        code = "print([l.split()[1] for l in open('/proc/self/status') if l[:6] in ('SigBlk', 'SigIgn')])"
        {"scores": [], "seen": subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True).stdout}
        """,
        linux=True,
    ),
    Program(
        "open_descriptors",
        DESCRIPTORS
        + """
{"scores": [], "seen": [[number, *kind(number), os.get_inheritable(number)] for number in numbers]}
""",
        linux=True,
    ),
    Program(
        "modes_of_descriptors",
        DESCRIPTORS
        + """
seen = [[number, fcntl.fcntl(number, fcntl.F_GETFL), fcntl.fcntl(number, fcntl.F_GETFD), os.get_blocking(number)] for number in numbers]
{"scores": [], "seen": [*seen, [os.isatty(number) for number in range(3)]]}
""",
        linux=True,
    ),
    Program(
        "the_next_descriptors",
        """
        import os
        first = os.open("/dev/null", os.O_RDONLY)
        second = os.dup(first)
        with open("/dev/null") as file:
            {"scores": [], "seen": [first, second, file.fileno()]}
        {"scores": [], "seen": [first, second, *os.pipe()]}
        """,
    ),
    Program(
        "descriptors_of_a_child",
        """
        import subprocess, sys
        code = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd') if os.path.lexists('/proc/self/fd/' + n)))"
        seen = [subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, close_fds=close).stdout for close in (True, False)]
        {"scores": [], "seen": seen}
        """,
        linux=True,
    ),
    Program(
        "who_the_process_is",
        """
        import os, threading, ctypes, multiprocessing
        me = os.getpid()
        seen = [os.getpgid(0) == me, os.getsid(0) == me, threading.get_native_id() == me, threading.main_thread().native_id == me]
        seen += [ctypes.CDLL(None).getpid() == me, multiprocessing.current_process().pid == me, os.getppid() not in (me, 0, 1)]
        seen += [os.readlink("/proc/self") == str(me), os.getresuid(), os.getresgid(), os.getgroups()]
        {"scores": [], "seen": seen}
        """,
        linux=True,
    ),
    Program(
        "no_terminal",
        """
        import os, sys
        fields = open("/proc/self/stat").read().rpartition(")")[2].split()
        seen = [fields[4], os.ctermid()]  # tty_nr
        try:
            open("/dev/tty")
        except OSError as problem:
            seen += [problem.strerror]
        try:
            os.get_terminal_size()
        except OSError as problem:
            seen += [problem.strerror]
        {"scores": [], "seen": [*seen, sys.stdin.isatty(), sys.stdout.isatty(), sys.stderr.isatty()]}
        """,
        linux=True,
    ),
    Program(
        "limits",
        """
        import resource
        names = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
        {"scores": [], "seen": {name: resource.getrlimit(getattr(resource, name)) for name in names}}
        """,
    ),
    Program(
        "priorities",
        """
        import os
        seen = [os.nice(0), sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0), os.cpu_count()]
        seen += [open(f"/proc/self/{name}").read().strip() for name in ("oom_score_adj", "coredump_filter", "personality", "timerslack_ns")]
        {"scores": [], "seen": seen}
        """,
        linux=True,
    ),
    Program(
        "what_prctl_says",
        """
        import ctypes
        prctl = ctypes.CDLL(None).prctl
        seen = {"dumpable": prctl(3, 0, 0, 0, 0), "keepcaps": prctl(7, 0, 0, 0, 0), "securebits": prctl(27, 0, 0, 0, 0)}
        seen |= {"timerslack": prctl(30, 0, 0, 0, 0), "no_new_privs": prctl(39, 0, 0, 0, 0), "thp_disable": prctl(42, 0, 0, 0, 0)}
        for name, option in (("pdeathsig", 2), ("subreaper", 37)):
            found = ctypes.c_int(-1)
            prctl(option, ctypes.byref(found), 0, 0, 0)
            seen[name] = found.value
        text = ctypes.create_string_buffer(16)
        prctl(16, text, 0, 0, 0)
        {"scores": [], "seen": {**seen, "name": text.value.decode()}}
        """,
        linux=True,
    ),
    Program(
        "tasks_and_children",
        """
        import os, threading
        seen = [len(os.listdir("/proc/self/task")), open(f"/proc/self/task/{os.getpid()}/children").read(), threading.active_count()]
        {"scores": [], "seen": seen}
        """,
        seen=[1, "", 1],
        linux=True,
    ),
    Program(
        "the_process_as_psutil_sees_it",
        """
        import os, time
        import psutil
        me = psutil.Process()
        seen = [me.pid == os.getpid(), me.name(), me.cwd(), me.num_threads(), me.children(), me.username(), me.terminal(), me.status()]
        seen += [0 <= time.time() - me.create_time() < 60, me.exe(), me.environ() == dict(os.environ), me.nice(), len(me.open_files())]
        {"scores": [], "seen": seen}
        """,
        linux=True,
        needs=("psutil",),
    ),
    Program(
        "the_program_of_the_process",
        """
        import os, sys
        {"scores": [], "seen": [os.readlink("/proc/self/exe") == os.path.realpath(sys.executable), open("/proc/self/comm").read()]}
        """,
        linux=True,
    ),
    Program(
        "namespaces",
        """
        import os
        {"scores": [], "seen": {name: os.readlink(f"/proc/self/ns/{name}") for name in sorted(os.listdir("/proc/self/ns"))}}
        """,
        linux=True,
    ),
    Program(
        "an_alarm",
        """
        import signal, time
        heard = []
        signal.signal(signal.SIGALRM, lambda number, frame: heard.append((number, frame.f_code.co_name)))
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        while not heard: time.sleep(0.01)
        signal.alarm(10)
        {"scores": [], "seen": [heard, signal.alarm(0)]}
        """,
        seen=[[[14, "<module>"]], 10],
    ),
    Program(
        "a_repeated_timer",
        """
        import signal, time
        count = 0
        def hear(number, frame):
            global count
            count += 1
        signal.signal(signal.SIGVTALRM, hear)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.005, 0.005)
        while count < 3: pass
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        {"scores": [], "seen": count >= 3}
        """,
        seen=True,
    ),
    Program(
        "an_alarm_without_a_handler",
        "import signal, time\nsignal.setitimer(signal.ITIMER_REAL, 0.02)\ntime.sleep(5)",
        error="died",
        exit_status=-14,
    ),
    Program(
        "an_interrupt",
        """
        import os, signal
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000): pass
        except KeyboardInterrupt:
            seen = "interrupted"
        {"scores": [], "seen": seen}
        """,
        seen="interrupted",
    ),
    Program(
        "an_interrupt_that_nobody_catches",
        "import signal\nprint('before', flush=True)\nsignal.raise_signal(signal.SIGINT)\n0.5",
        error="user_code",
        exit_status=1,
        stdout="before\n",
        shows=("KeyboardInterrupt",),
    ),
    Program(
        "an_interrupt_at_its_default",
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\nsignal.raise_signal(signal.SIGINT)\n0.5",
        error="died",
        exit_status=-2,
    ),
    *(
        Program(
            f"death_by_signal_{number}",
            f"import os\nprint('before')\nos.kill(os.getpid(), {number})\nprint('after')",
            error="died",
            exit_status=-number,
            stdout="before\n",
        )
        for number in (1, 3, 9, 10, 15)
    ),
    Program("death_by_abort", "import os\nos.abort()", error="died", exit_status=-6),
    Program(
        "death_by_a_segmentation_fault",
        "import ctypes\nprint('before')\nctypes.string_at(0)",
        error="died",
        exit_status=-11,
        stdout="before\n",
    ),
    Program(
        "termination_with_a_handler",
        """
        import os, signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000): pass
        """,
        error="no_result",
        exit_status=4,
    ),
    Program(
        "a_broken_pipe",
        """
        import os
        readable, writable = os.pipe()
        os.close(readable)
        try:
            os.write(writable, b"x")
        except BrokenPipeError as problem:
            seen = [problem.errno]
        {"scores": [], "seen": seen}
        """,
        seen=[32],
    ),
    Program(
        "signals_of_children",
        """
        import os, signal, time
        heard = []
        signal.signal(signal.SIGCHLD, lambda number, frame: heard.append(number))
        if os.fork() == 0: os._exit(0)
        os.wait()
        while not heard: time.sleep(0.01)
        {"scores": [], "seen": heard}
        """,
        seen=[17],
        linux=True,
    ),
    Program(
        "waiting_for_signals",
        """
        import os, signal, threading
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
        pending = sorted(signal.sigpending())
        {"scores": [], "seen": [pending, sorted([signal.sigwait([10, 12]), signal.sigwait([10, 12])])]}
        """,
        seen=[[10, 12], [10, 12]],
        linux=True,
    ),
    Program(
        "a_wakeup_descriptor",
        """
        import os, signal, socket
        one, other = socket.socketpair()
        other.setblocking(False)
        signal.set_wakeup_fd(other.fileno())
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.raise_signal(signal.SIGUSR1)
        {"scores": [], "seen": list(one.recv(1))}
        """,
        seen=[10],
        linux=True,
    ),
    Program(
        "lower_limits",
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        try:
            with open("big", "wb", buffering=0) as file:
                written = [file.write(b"x" * 2000)]
                file.write(b"x")
        except OSError as problem:
            written += [problem.strerror]
        import os
        os.remove("big")
        {"scores": [], "seen": written}
        """,
        seen=[1000, "File too large"],
        linux=True,
    ),
]
