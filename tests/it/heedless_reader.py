"""Reads a view all the time and takes errors as they come, until a file is there, or the view's directory is gone. Prints the numbers of the errors that it met.

Arguments: the view, the file.
"""

import os
import random
import sys

view, end = sys.argv[1], sys.argv[2]
met = set()
while os.path.exists(os.path.dirname(view)) and not os.path.exists(end):
    try:
        skills = os.path.join(view, ".agents/skills")
        for name in random.sample(os.listdir(skills), 3):
            with open(os.path.join(skills, name, "SKILL.md")) as file:
                file.read()
        os.stat(os.path.join(skills, f"none-{random.random()}"))
    except (OSError, ValueError) as error:
        met.add(getattr(error, "errno", None) or 0)
print(*sorted(met))
