"""Networks, with the weight initialization of the CSF paper's released program."""
