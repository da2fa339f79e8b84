def post(channel: str, text: str) -> str:
    return f"base: {channel}: {text}"
