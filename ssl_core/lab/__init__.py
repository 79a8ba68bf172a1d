"""Running and reading experiments. It imports the science; the science knows nothing of it."""

import sys

# When nbformat's JSON validator is imported, it builds a grammar of web addresses, which nothing here asks for: two seconds for
# each notebook that is executed (python-jsonschema, issue 1428). It does without if there is no such module.
sys.modules.setdefault("rfc3987_syntax", None)
