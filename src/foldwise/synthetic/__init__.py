"""A made-up table of complaints."""
