"""Reports as runs write them, for all tests that show or read one."""
