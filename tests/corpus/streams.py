"""Stdin, stdout and stderr: what they are, and what is written to them by whatever way."""

from tests.corpus.program import Program

PROGRAMS = [
    Program(
        "streams_as_they_are",
        """
        import io, sys
        seen = []
        for name in ("stdin", "stdout", "stderr"):
            stream = getattr(sys, name)
            seen.append([stream.name, stream.mode, stream.encoding, stream.errors, stream.newlines, stream.line_buffering, stream.write_through])
            seen.append([stream.isatty(), stream.fileno(), stream.closed, type(stream).__name__, type(stream.buffer).__name__, stream.buffer.name])
            seen.append([stream.buffer.raw.mode, stream.buffer.raw.closefd, stream is getattr(sys, f"__{name}__"), repr(stream), stream._CHUNK_SIZE])
        {"scores": [], "seen": seen}
        """,
    ),
    Program(
        "stdin_as_it_is",
        """
        import os, stat, sys
        seen = [sys.stdin.buffer.tell(), os.lseek(0, 0, os.SEEK_CUR), sys.stdin.seekable(), stat.S_ISREG(os.fstat(0).st_mode), os.fstat(0).st_size]
        text = sys.stdin.read()
        seen += [text, sys.stdin.read(), os.lseek(0, 0, os.SEEK_CUR) == len(text.encode())]
        sys.stdin.seek(0)
        {"scores": [], "seen": [*seen, sys.stdin.read() == text]}
        """,
        data={"a": [1, None, "é"]},
    ),
    Program(
        "stdin_by_json",
        """
        import json, sys
        print(json.dumps({"seen": [json.load(sys.stdin), data, payload_type]}))
        """,
        data={"a": [1, None, "é", 1e300, float("inf")], "b": {"c": "x" * 70_000}},
    ),
    Program(
        "stdin_by_input",
        """
        import io, sys
        try:
            input("prompt: ")  # there is no keyboard
        except RuntimeError as problem:
            seen = [str(problem)[:25]]
        request, sys.stdin = sys.stdin, io.StringIO("yes\\n")
        seen += [input("own: ")]
        {"scores": [], "seen": [*seen, request.read()]}
        """,
        data={"a": 1},
        stdout="own: ",
        seen=["An isolated run has no ke", "yes", '{"data": {"a": 1}, "payload_type": null}'],
    ),
    Program(
        "stdin_of_children",
        """
        import multiprocessing, os, subprocess, sys
        cat = dict(capture_output=True, text=True)
        seen = [subprocess.run(["cat"], **cat).stdout, subprocess.run(["cat"], input="own", **cat).stdout]
        seen += [subprocess.run(["cat"], preexec_fn=os.getpid, **cat).stdout, os.popen("cat").read(), os.system("cat")]
        seen += [os.waitpid(os.posix_spawn("/bin/cat", ["cat"], os.environ), 0)[1], os.spawnlp(os.P_WAIT, "cat", "cat")]
        here, there = multiprocessing.Pipe()
        multiprocessing.get_context("fork").Process(target=lambda: there.send(os.read(0, 9).decode())).start()
        seen += [here.recv()]
        pid = os.fork()
        if pid == 0:
            os._exit(len(os.read(0, 9)) + len(sys.stdin.read()))
        seen += [os.waitpid(pid, 0)[1], os.read(0, 2).decode(), sys.stdin.read(3)]
        {"scores": [], "seen": seen}
        """,
        data={"a": 1},
        stdout="",
        seen=["", "own", "", "", 0, 0, 0, "", 0, '{"', "dat"],
    ),
    Program(
        "stdin_by_descriptor",
        """
        import os, subprocess, sys
        seen = [os.read(0, 8).decode(), sys.stdin.read(), sys.stdin.read()]
        os.lseek(0, 10, os.SEEK_SET)
        seen += [subprocess.run(["cat"], capture_output=True, text=True).stdout, os.read(0, 5).decode()]
        os.lseek(0, 0, os.SEEK_SET)
        {"scores": [], "seen": [*seen, open(0, closefd=False).read(6)[:5], open("/dev/stdin").read(6)]}
        """,
        data={"a": 1},
        seen=['{"data":', ' {"a": 1}, "payload_type": null}', "", "", '"a": ', '{"dat', '{"data'],
    ),
    Program(
        "stdin_that_is_closed",
        """
        import os, sys
        sys.stdin.close()
        {"scores": [], "seen": [sys.stdin.closed, sys.__stdin__.closed, os.open("/dev/null", os.O_RDONLY)]}
        """,
        seen=[True, True, 3],  # the descriptor itself stays open
    ),
    Program(
        "lines_and_pieces",
        """
        import os, sys
        print("a line")
        sys.stdout.write("a piece, ")
        os.write(1, b"a descriptor's before it\\n")
        sys.stdout.flush()
        sys.stdout.buffer.write(b"bytes\\n")
        print("stderr", file=sys.stderr, end="")
        sys.stdout.writelines(["x\\n", "y"])
        {"scores": []}
        """,
        stdout="a line\na descriptor's before it\na piece, bytes\nx\ny",
        shows=("stderr",),
    ),
    Program("a_piece_that_nobody_flushes", "import sys\nsys.stdout.write('x')\n0.5", stdout="x"),
    Program(
        "bytes_that_nobody_flushes", "import sys\nsys.stdout.buffer.write(b'caf\\xc3\\xa9')\n0.5", stdout="café"
    ),
    Program("bytes_that_are_no_text", "import os\nos.write(1, b'a\\xffb\\n')\nos.write(2, b'\\xfe')\n0.5"),
    Program(
        "printf_that_nobody_flushes",
        "import ctypes\nctypes.CDLL(None).printf(b'by printf %d', 7)\n0.5",
        stdout="by printf 7",
    ),
    Program(
        "printf_and_print",
        """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.puts(b"by puts")
        print("by print")
        libc.printf(b"by printf\\n")
        libc.fflush(None)
        print("at the end")
        0.5
        """,
    ),
    Program(
        "printf_before_an_exit_that_flushes_nothing",
        "import ctypes, os\nctypes.CDLL(None).printf(b'lost')\nos._exit(0)",
        error="no_result",
        stdout="",
    ),
    Program(
        "printed_json_by_printf",
        'import ctypes\nctypes.CDLL(None).puts(b\'{"scores": [], "seen": 1}\')\nx = 1',
        seen=1,
    ),
    Program(
        "the_same_from_two_processes",
        """
        import os, sys
        sys.stdout.write("unflushed ")
        if os.fork() == 0:
            sys.stdout.flush()
            os._exit(0)
        os.wait()
        0.5
        """,
        stdout="unflushed unflushed ",
    ),
    Program(
        "a_megabyte_of_output",
        """
        import sys
        for n in range(10_000): print(f"{n:06} " + "x" * 93)
        sys.stderr.write("e" * 300_000)
        0.5
        """,
    ),
    Program(
        "surrogates",
        """
        import sys
        print("\\udcff", file=sys.stderr)
        try:
            print("\\ud800")
        except UnicodeEncodeError as problem:
            seen = str(problem)
        sys.stdout.write("\\udce9\\n")
        {"scores": [], "seen": seen}
        """,
    ),
    Program(
        "stdout_is_replaced",
        """
        import io, sys
        print("before")
        sys.stdout = io.StringIO()
        print("into nothing")
        {"scores": [], "seen": sys.stdout.getvalue()}
        """,
        stdout="before\n",
        seen="into nothing\n",
    ),
    Program(
        "stdout_is_replaced_at_the_end",
        """
        import atexit, io, sys
        atexit.register(lambda: print("by atexit"))
        atexit.register(lambda: sys.__stdout__.write("by the first stdout"))
        sys.stdout.write("before ")
        sys.stdout = sys.stderr
        0.5
        """,
        stdout="before by the first stdout",
        shows=("by atexit",),
    ),
    Program("stdout_is_closed", "import sys\nprint('before')\nsys.stdout.close()\n0.5", stdout="before\n"),
    Program(
        "printing_after_stdout_was_closed",
        "import sys\nsys.stdout.close()\nprint('x')",
        error="user_code",
        exit_status=1,
        shows=("I/O operation on closed file",),
    ),
    Program("stdout_is_none", "import sys\nsys.stdout = None\nprint('nowhere')\n0.5", stdout=""),
    Program(
        "descriptor_1_is_closed",
        "import os, sys\nsys.stdout.write('lost')\nos.close(1)\nx = 1",
        error="no_result",
        exit_status=120,
    ),
    Program(
        "descriptor_1_goes_to_a_file",
        """
        import os, sys
        print("to the pipe")
        kept = os.dup(1)
        target = os.open("out.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(target, 1)
        print("to the file")
        os.system("echo from a child")
        os.dup2(kept, 1)
        print("to the pipe again")
        0.5
        """,
        stdout="to the pipe\nto the pipe again\n",
        leaves={"out.txt": "to the file\nfrom a child\n"},
    ),
    Program(
        "redirections",
        """
        import contextlib, io, sys
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            print("kept")
            print("kept too", file=sys.stderr)
        sys.stdout.reconfigure(encoding="latin-1", errors="replace")
        sys.stdout.write("\\u20ac\\n")
        {"scores": [], "seen": [out.getvalue(), err.getvalue(), sys.stdout.encoding]}
        """,
        stdout="?\n",
        seen=["kept\n", "kept too\n", "latin-1"],
    ),
    Program(
        "output_of_children",
        """
        import os, subprocess, sys
        sys.stdout.write("mine\\n")
        subprocess.run(["echo", "a child's"])
        os.system("echo a shell\\\\'s")
        subprocess.run([sys.executable, "-S", "-c", "import sys; print('err', file=sys.stderr); print('out')"])
        print("mine again")
        0.5
        """,
        stdout="mine\na child's\na shell's\nout\nmine again\n",
        shows=("err",),
    ),
    Program(
        "printing_from_many_threads",
        """
        import threading
        lock = threading.Lock()
        def work():
            with lock:
                for n in range(100): print("same line")
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        0.5
        """,
        stdout="same line\n" * 400,
    ),
    Program(
        "a_result_with_more_printed_before_it",
        "print('{\"scores\": []}')\nprint('ordinary')\nprint('  {\"seen\": [1.5, null, \"é\"]}  \\n\\n')",
        stdout='{"scores": []}\nordinary\n',
        seen=[1.5, None, "é"],
    ),
]
