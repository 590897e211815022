"""What durability costs."""
