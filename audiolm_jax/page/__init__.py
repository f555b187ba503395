"""Pages to hear and see, each one file of HTML that loads nothing."""
