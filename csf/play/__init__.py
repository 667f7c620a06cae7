"""Shows the skills of an agent in a browser, in three dimensions and while they are executed."""

MISSING = "csf play needs the packages viser and mjviser: pip install 'viser>=1.1,<2' 'mjviser>=0.0.14,<0.1'"
