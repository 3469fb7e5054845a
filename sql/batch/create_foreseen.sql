-- The households that a plan would change, and the bits, for the length of the plan.
create temp table foreseen (household_id bigint not null, reasons bigint not null) on commit drop
