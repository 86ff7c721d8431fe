"""Other users' records among ours in what PBS's qstat prints, with all that it does not escape."""

import json
from typing import Any

# Texts of records: stray backslashes, raw quotes, escapes that are none, and numbers that JSON does not have.
NASTY = (
    r""""901.other": {"Job_Name":"theirs","Job_Owner":"user1@login1","job_state":"R",
        "Variable_List":{"PS1":"\h \w> ","TAG":"\$HOME/x"}}""",
    """"902.other": {"Job_Name":"raw","Job_Owner":"user1@l","job_state":"R",
        "comment":"node check: "scratch" is full"}""",
    r""""903.other": {"Job_Name":"escape","Job_Owner":"user2@l","job_state":"Q",
        "Variable_List":{"P":"\u@\h:C:\new"}}""",
    """"904.other": {"Job_Name":"numbers","Job_Owner":"user2@l","job_state":"R",
        "Variable_List":{"A":.5,"B":inf,"C":007,"D":1e,"E":nan,"F":-}}""",
    """"905.other": {"Job_Name":12345,"Job_Owner":"user3@l","job_state":"R","comment":"a tab\there"}""",
)


def among(foreign: list[str], content: dict[str, Any]) -> str:
    """A listing with other users' records, as texts, before, between and after ours."""
    ours = [f"{json.dumps(job)}: {json.dumps(record, indent=4)}" for job, record in content.pop("Jobs", {}).items()]
    texts: list[str] = []
    for i in range(max(len(foreign), len(ours))):
        texts += [*foreign[i : i + 1], *ours[i : i + 1]]
    head = json.dumps(content, indent=4).rpartition("\n}")[0]
    return f'{head},\n    "Jobs":{{\n' + ",\n".join(texts) + "\n    }\n}"
