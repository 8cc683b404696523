"""Who is who in the shop: keys and the tokens that they sign, who is calling, and who may call what."""
