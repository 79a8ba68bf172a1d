"""What people work with: explore, watch, label next, predict, bench."""
