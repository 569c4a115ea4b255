"""What people read: every record's document as a page, a summary and tables on the terminal; plots; exports."""
