"""Arguments that a shell would change, were they not quoted."""

ARGUMENTS = [
    "",
    "two  words ",
    "it's",
    'say "no"',
    "'\"'\"'",
    "$HOME ${HOME} $(echo no) $$ $$(HOME) `echo no`",
    "a\\b\\n\\x41 \\",
    "first line\nsecond line\n",
    "tab\there\rand back",
    "*.gin ?? [a-z] ~ ~/x {a,b} !! #no",
    "a;b & c | d > e < f (g)",
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 512, 'targets': 114}",
    "--",
    "-n",
    "naïve ≠ 日本",
    "%s %USER% {0} {args}",
]
