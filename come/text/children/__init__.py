"""Programs that ``come.text.apart`` runs in processes of their own. They import nothing of this package."""
