"""What a user is promised, one test for each property of the list; names say which (r03 is R3)."""
