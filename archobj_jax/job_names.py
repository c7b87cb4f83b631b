"""Names of slices and jobs that Google Cloud and Kubernetes both accept."""

import re

LONGEST = 40
"""Characters, so that what their own suffixes add still fits."""

PATTERN = re.compile(rf"[a-z]([-a-z0-9]{{0,{LONGEST - 2}}}[a-z0-9])?")
"""Lower-case letters, digits and hyphens, a letter first and no hyphen last."""
