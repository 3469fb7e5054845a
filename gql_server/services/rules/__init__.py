"""Asks the rules of plug-ins about candidates: those of a batch's plan (`relation`), or a page of them (`page`).

Conditions (`deny_channel_when`) come first, in a plan where it finds the channels: nobody else is asked about what they
deny. A plan without rules in Python asks the product's own rules of `Rule.where` there, too (`RuleSet.with_early`):
they may deny nearly everybody, so their denials stand in the rows of the channels. Rules in Python are asked next, in
chunks, in threads. Rules in SQL are asked last, in one statement over the relation `candidate`, so that what was
recorded while Python ran counts (D19). For each reason of a candidate the first rule that denies it, in the host's
order, is the one that counts (D10).
"""
