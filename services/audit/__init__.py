"""The auditor: reads what the services left behind, and believes none of them."""
