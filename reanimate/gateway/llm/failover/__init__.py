"""Who is asked, how long it is waited for, and who is asked instead."""
