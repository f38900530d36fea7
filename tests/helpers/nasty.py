"""Text that people choose, and that YAML, OmegaConf, shells or file systems misread."""

from __future__ import annotations

NASTY = (
    # booleans, nulls and numbers of YAML 1.1 or 1.2
    "no", "No", "on", "off", "yes", "y", "true", "False", "null", "Null", "~", "none",
    "0012", "01", "0o17", "0x1f", "1e3", "1.0", "1_000", "12:30", "12:30:45", ".5", "+1", "-1",
    ".inf", ".nan", "nan", "2026-12-01", "<<", "=",
    # indicators of YAML, interpolation and missing values of OmegaConf, variables of shells
    "{a}", "[a]", "{a: b}", "[a", "a]", "}", "${x}", "${oc.env:HOME}", "$HOME", "$(ls)", "`ls`",
    "???", "?", "a: b", "a:b", ": a", "#x", "a #b", "&a", "&a b", "*a", "!a", "!!int 3", "%a", "@a",
    "|", ">", "- a", "-", "--help", "-n", "...", "---", ".hidden", "a,b", ",", "a;b", "a|b", "a&b",
    "a\\b", "\\n", "C:\\x", "'", '"', "it's", "'a'", '"a"', "a'b\"c", "a=b", "key=value",
    "<b>&amp;", "a b", "a  b", "a\tb", "*", "~user", "a.", "CON",
    # Unicode: emoji, right to left, combining characters, width zero, not in the BMP
    "🦊", "👩‍🚀", "שלום", "مرحبا", "e\N{COMBINING ACUTE ACCENT}", "é", "naïve", "日本語", "ß",
    "\N{ZERO WIDTH SPACE}", "a\N{RIGHT-TO-LEFT OVERRIDE}b", "\N{NO-BREAK SPACE}",
    "\N{MATHEMATICAL FRAKTUR CAPITAL G}", "\N{ZERO WIDTH NO-BREAK SPACE}a",
    # long
    "x" * 200, "é" * 120,
)  # fmt: skip
# a space at an end survives only within quotation marks
PADDED = (" a", "a ", " ")
LINE_BREAKS = ("a\nb", "a\rb", "a\x0bb", "a\x85b", "a\N{LINE SEPARATOR}b", "a\x00b", "a\x1bb")
