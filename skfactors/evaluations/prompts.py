"""What a judge is told and asked: all of it is here. Marked tokens stand between « and »."""

NAME = """\
Here are passages of text. In each, the tokens between « and » have something in common.

{contexts}

What do the tokens between « and » have in common? Answer with a short phrase and nothing else."""

DETECTION = """\
Here is a description of something that a text may contain: {name}

Here is a text: {text}

Does the text contain what the description says? Answer with one word, yes or no."""

FUZZING = """\
Here is a description of tokens: {name}

Here is a text in which some tokens stand between « and »: {text}

Are the tokens between « and » what the description says? Answer with one word, yes or no."""
