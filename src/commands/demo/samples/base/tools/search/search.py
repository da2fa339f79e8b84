def search(words: str) -> list[str]:
    return [words]
