"""How much shorter or longer an answer is than its reference.

A plain file: it runs with ``%isolated --file metrics/conciseness.py --data row`` and with
``executor.execute("metrics/conciseness.py", row)``. The name ``data`` is there when it runs.
"""

import json

answer, reference = data["answer"].split(), data["reference"].split()  # noqa: F821 - given by the run
ratio = len(answer) / max(len(reference), 1)
score = max(0.0, 1.0 - abs(1.0 - ratio))

reason = f"{len(answer)} words for {len(reference)}"
print(json.dumps({"scores": [{"name": "conciseness", "value": round(score, 3), "reason": reason}]}))
