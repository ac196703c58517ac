"""The run's answer: members' out-of-fold predictions in, weights and one prediction a row out."""
