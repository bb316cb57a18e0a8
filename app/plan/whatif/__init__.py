"""The plan page's what-if: what the plan would come to, told while it is being changed."""
