WORKFLOW_NAME = "triage"


def handler(event):
    return event
