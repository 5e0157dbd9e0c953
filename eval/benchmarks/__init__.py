"""What the project's scoring costs, beside other ways to compute the same scores."""
