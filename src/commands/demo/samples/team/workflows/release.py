WORKFLOW_NAME = "release"


def handler(event):
    return event
