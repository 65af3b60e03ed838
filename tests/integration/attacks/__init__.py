"""What a person tries who means harm, or does harm by accident; and what must be the answer."""
