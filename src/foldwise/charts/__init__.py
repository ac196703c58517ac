"""Charts that several rooms draw."""
