"""Networks, with the initial values of the CSF paper's released program."""
