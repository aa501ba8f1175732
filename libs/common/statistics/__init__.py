"""Statistics that more than one service needs: intervals, paired tests, multiplicity, power. No I/O."""
