"""Print what a forked run takes as a multiple of a naive fork: a quick look, while something is changed.

Usage: ``python benchmarks/multiples.py [bare|opik] [ROUNDS]``. Both take turns: in a loop, then with a pause of
50 ms before each run.
"""

# The workers of a process pool import this file anew.
if __name__ == "__main__":
    import argparse
    import os
    import time

    import candidates
    from measure import Series
    from naive_fork import naive_forks
    from workloads import BARE, OPIK, QUIET

    PAUSE_SECS = 0.05
    WARM_UP_ROUNDS = 30

    parser = argparse.ArgumentParser(description="Compare a forked run with a naive fork.")
    parser.add_argument("workload", nargs="?", choices=("bare", "opik"), default="bare")
    parser.add_argument("rounds", nargs="?", type=int, default=300)
    chosen = parser.parse_args()
    os.environ.update(QUIET)
    workload = {"bare": BARE, "opik": OPIK}[chosen.workload]
    with naive_forks(workload, processes=1) as naive, candidates.forked_executor(workload) as executor:
        calls = {"naive": naive.run, "ours": lambda: candidates.run_ours(executor, workload, "forked")}
        for _ in range(WARM_UP_ROUNDS):
            for call in calls.values():
                call()
        for pause in (0, PAUSE_SECS):
            taken = {name: Series() for name in calls}
            for number in range(max(1, chosen.rounds // (5 if pause else 1))):
                for name in sorted(calls, reverse=bool(number % 2)):  # neither always follows the other
                    time.sleep(pause)
                    taken[name].take(calls[name])
            ours, floor = taken["ours"].median, taken["naive"].median
            title = f"{pause * 1000:g} ms before each" if pause else "in a loop"
            print(
                f"{title}: ours {ours:.2f} ms, a naive fork {floor:.2f} ms: {ours / floor:.2f} times", flush=True
            )
