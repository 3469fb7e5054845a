-- The people that a run selects, for the length of the plan.
create temp table selected (person_id bigint not null, student_id bigint) on commit drop
