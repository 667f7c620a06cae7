"""How good a repertoire of skills is: evaluators measure, the environment says what success is."""
