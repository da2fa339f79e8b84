def post(channel: str, text: str) -> str:
    return f"team: {channel}: {text}"
