"""Pictures and pages about a data set."""
