"""The warm work as a picture: CPU time × native, one row a kind of work, on a logarithmic scale. Plain SVG, no library."""

import math

from report import NATIVE, OURS, Numbers

WORKS = ("find with sizes", "stat all", "read all", "absent names", "readlink", "Python imports", "large file again", "random 4 KiB reads")
COLOURS = {
    OURS: "#d0342c",
    "overlayfs": "#1f6fb4",
    "fuse-overlayfs": "#58a55c",
    "mergerfs": "#8a63b8",
    "bindfs": "#e08a1e",
    "unionfs-fuse": "#7d6a5a",
}
LEFT, TOP, WIDTH, ROW, BOTTOM = 170, 64, 560, 34, 40
LEAST, MOST = 0.5, 100


def x(ratio):
    share = math.log(min(max(ratio, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return LEFT + share * WIDTH


def text(at_x, at_y, words, more=""):
    return f'<text x="{at_x:.1f}" y="{at_y:.1f}" {more}>{words}</text>'


def draw(measured):
    numbers = Numbers(measured)
    works = [work for work in WORKS if work in measured.samples["warm"]]
    names = [name for name in COLOURS if name in numbers.systems("warm")]
    height = TOP + ROW * len(works) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 40} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="#ffffff"/>',
        text(LEFT, 18, "CPU time of reader and daemon, warm, × native ext4 (logarithmic; left is better)", 'font-weight="bold"'),
    ]
    at = LEFT
    for name in names:
        parts.append(f'<circle cx="{at}" cy="36" r="5" fill="{COLOURS[name]}"/>' + text(at + 9, 40, name))
        at += 24 + 7 * len(name)
    bottom = TOP + ROW * len(works)
    for tick in (0.5, 1, 2, 5, 10, 20, 50, 100):
        line = 'stroke="#333" stroke-width="1.5"' if tick == 1 else 'stroke="#ddd"'
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 8}" y2="{bottom}" {line}/>')
        parts.append(text(x(tick), bottom + 16, f"{tick}×", 'text-anchor="middle" fill="#555"'))
    for row, work in enumerate(works):
        middle = TOP + ROW * row + ROW / 2
        parts.append(text(LEFT - 12, middle + 4, work, 'text-anchor="end"'))
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{middle}" y2="{middle}" stroke="#eee"/>')
        # Ours last, so that nothing covers it.
        for name in reversed(names):
            ratio = numbers.ratio("warm", work, name, "cpu")
            if ratio is not None and name != NATIVE:
                label = f"<title>{name}: {ratio:.2f}</title>"
                parts.append(f'<circle cx="{x(ratio):.1f}" cy="{middle}" r="6" fill="{COLOURS[name]}" fill-opacity="0.85">{label}</circle>')
    return "\n".join([*parts, "</svg>", ""])
