"""What is applied to a finished network from outside: policies, quantisation."""
