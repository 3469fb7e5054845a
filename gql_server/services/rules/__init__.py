"""Asks the rules of plug-ins about candidates: those of a batch's plan (`relation`), or a page of them (`page`).

Both ask rules in SQL in one statement over the relation `candidate`, and rules in Python in chunks, in threads. A plan
asks its conditions (`deny_channel_when`) before that, where it finds the channels. For each reason of a candidate the
first rule that denies it, in the host's order, is the one that counts (D10).
"""
