"""Shows the skills of an agent in a browser, in three dimensions and while they are executed."""
