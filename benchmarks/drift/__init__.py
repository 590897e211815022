"""How often something wrong is told of links with which nothing is, and how soon of those with which something is."""
