"""What is random has to be another value in every run; what is seeded, the same."""

from tests.corpus.program import Program

PROGRAMS = [
    Program(
        "random_of_the_standard_library",
        """
        import random, secrets, os
        varies = {"random": random.random(), "instance": random.Random().random(), "system": random.SystemRandom().random()}
        varies |= {"bits": random.getrandbits(128), "sample": random.sample(range(10**9), 3), "gauss": random.gauss(0, 1)}
        varies |= {"urandom": os.urandom(8).hex(), "token": secrets.token_hex(8), "below": secrets.randbelow(2**64)}
        varies |= {"bytes": random.randbytes(8).hex(), "state": hash(random.getstate())}
        {"scores": [], "varies": varies}
        """,
        varies=True,
    ),
    Program(
        "random_seeded",
        """
        import random
        seen = [random.Random(42).random(), random.Random("text").random()]
        random.seed(7)
        {"scores": [], "seen": [*seen, random.random(), random.shuffle(data["list"]), data["list"], random.choices("abc", k=5)]}
        """,
        data={"list": [1, 2, 3, 4, 5, 6]},
    ),
    Program(
        "random_of_numpy",
        """
        import numpy
        varies = {"rand": numpy.random.rand(), "generator": numpy.random.default_rng().random(), "state": numpy.random.RandomState().rand()}
        varies |= {"entropy": str(numpy.random.SeedSequence().entropy), "ints": numpy.random.randint(0, 2**62, 2)}
        varies |= {"shuffled": numpy.random.permutation(1000)[:5], "key": numpy.random.get_state()[1][:3]}
        {"scores": [], "varies": varies}
        """,
        varies=True,
        needs=("numpy",),
    ),
    Program(
        "random_of_numpy_seeded",
        """
        import numpy
        numpy.random.seed(3)
        {"scores": [], "seen": [numpy.random.rand(3), numpy.random.default_rng(5).integers(0, 1000, 3), numpy.random.RandomState(1).rand()]}
        """,
        needs=("numpy",),
    ),
    Program(
        "unique_identifiers",
        """
        import uuid
        one = uuid.uuid1()
        seen = [uuid.getnode() == one.node, one.version, uuid.uuid4().version, str(uuid.uuid5(uuid.NAMESPACE_DNS, "a"))]
        {"scores": [], "seen": seen, "varies": {"one": str(uuid.uuid1()), "four": str(uuid.uuid4()), "other": str(uuid.uuid4())}}
        """,
        varies=True,
    ),
    Program(
        "the_node_of_identifiers",
        """
        import uuid
        made_up = uuid.getnode() >> 40 & 1  # of a machine without a network card
        {"scores": [], "seen": None if made_up else uuid.getnode()}
        """,
    ),
    Program(
        "unique_identifiers_of_a_native_library",
        """
        import fastuuid
        {"scores": [], "varies": {"four": str(fastuuid.uuid4()), "seven": str(fastuuid.uuid7()), "bulk": [str(u) for u in fastuuid.uuid4_bulk(2)]}}
        """,
        varies=True,
        needs=("fastuuid",),
    ),
    Program(
        "unique_identifiers_in_order_of_time",
        """
        import uuid6
        {"scores": [], "varies": {"six": str(uuid6.uuid6()), "seven": str(uuid6.uuid7())}}
        """,
        varies=True,
        needs=("uuid6",),
    ),
    Program(
        "temporary_names",
        """
        import os, tempfile
        with tempfile.NamedTemporaryFile(dir=".") as file, tempfile.TemporaryDirectory(dir=".") as folder:
            varies = {"file": os.path.basename(file.name), "folder": os.path.basename(folder)}
        varies |= {"made": os.path.basename(tempfile.mktemp()), "next": next(tempfile._get_candidate_names())}
        {"scores": [], "seen": [tempfile.gettempdir(), tempfile.gettempprefix()], "varies": varies}
        """,
        varies=True,
    ),
    Program(
        "random_of_openssl",
        """
        import ssl
        {"scores": [], "varies": {"bytes": ssl.RAND_bytes(8).hex()}}
        """,
        varies=True,
    ),
    Program(
        "random_of_c",
        """
        import ctypes
        libc = ctypes.CDLL(None)
        libc.drand48.restype = ctypes.c_double
        {"scores": [], "seen": [libc.rand(), libc.rand(), libc.random(), libc.drand48()]}
        """,
    ),
    Program(
        "random_of_the_mail_library",
        """
        import email.utils, email.generator
        {"scores": [], "varies": {"id": email.utils.make_msgid(domain="x"), "boundary": email.generator._make_boundary()}}
        """,
        varies=True,
    ),
    Program(
        "keys_of_multiprocessing",
        """
        import multiprocessing
        key = multiprocessing.current_process().authkey
        {"scores": [], "seen": len(key), "varies": {"key": key.hex()}}
        """,
        varies=True,
        seen=32,
    ),
    Program(
        "random_in_threads",
        """
        import random, threading
        found = {}
        threads = [threading.Thread(target=lambda n=n: found.update({n: random.random()})) for n in range(3)]
        for thread in threads: thread.start(); thread.join()
        {"scores": [], "seen": len(set(found.values())), "varies": found}
        """,
        varies=True,
        seen=3,
    ),
    Program(
        "random_in_forks",
        """
        import os, random, uuid
        def in_fork():
            readable, writable = os.pipe()
            if os.fork() == 0:
                os.write(writable, f"{random.random()} {random.Random().random()} {os.urandom(4).hex()} {uuid.uuid4()}".encode())
                os._exit(0)
            os.wait()
            return os.read(readable, 1000).decode().split()
        first, second = in_fork(), in_fork()
        seen = [first[0] != second[0], first[1] != second[1], first[2] != second[2], first[3] != second[3]]
        {"scores": [], "seen": seen, "varies": {"first": first, "second": second}}
        """,
        varies=True,
        seen=[True, True, True, True],
    ),
    Program(
        "random_in_a_file",
        """
        import random
        import sibling
        print(sibling.NUMBER == sibling.NUMBER)
        {"scores": [], "varies": {"own": random.random(), "sibling": sibling.NUMBER, "instance": sibling.INSTANCE.random()}}
        """,
        file="program.py",
        files={"sibling.py": "import random\nNUMBER = random.random()\nINSTANCE = random.Random()\n"},
        varies=True,
    ),
    Program(
        "random_after_libraries",
        """
        import random
        import numpy, pydantic, httpx
        {"scores": [], "varies": {"random": random.random(), "numpy": numpy.random.rand()}}
        """,
        varies=True,
        needs=("numpy", "pydantic", "httpx"),
    ),
]
