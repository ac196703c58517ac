"""What is predicted from what: the seam between the workflow and a model."""
