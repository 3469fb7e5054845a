-- The staging tables of one import, and the lock that imports of one district share.

-- name: lock
-- Waits for another import of the same district to end. The lock ends with the transaction.
-- Parameters: code
-- Columns: none
select pg_advisory_xact_lock(hashtextextended('import:' || :code::text, 0))

-- name: create_tables
-- Creates the staging tables for one transaction. References between rows are tokens: `student=17` for an identity
-- and `student#ID` for a `ref`; import_identity says what each token stands for. `file` and `line` say where a row
-- came from.
-- Parameters: none
-- Columns: none
do $$
begin
  create temporary table import_id (kind text, token text, key text, file text, line integer) on commit drop;
  create temporary table import_identity (token text primary key, kind text, key text, id bigint) on commit drop;
  create temporary table import_use (token text, file text, line integer) on commit drop;
  create temporary table import_organization (key text, name text, school boolean, file text, line integer)
    on commit drop;
  create temporary table import_session (
    school text, school_year integer, start_date date, end_date date) on commit drop;
  create temporary table import_person (
    role text, source_id text, first_name text, last_name text, content text, file text, line integer) on commit drop;
  create temporary table import_address (
    person text, kind text, value text, priority integer, file text, line integer, position integer) on commit drop;
  create temporary table import_relationship (
    student text, contact text, kind text, guardian boolean, messenger boolean, primary_contact boolean,
    lives_with boolean, file text, line integer) on commit drop;
  create temporary table import_enrollment (
    student text, school text, calendar text, school_year integer, year_from text, grade text, start_date date,
    end_date date, file text, line integer) on commit drop;
  create temporary table import_assignment (
    staff text, organization text, title text, start_date date, end_date date, file text, line integer)
    on commit drop;
  create temporary table import_resident (
    number integer, person_id bigint, household_source_id text, root integer) on commit drop;
  create temporary table import_root (number integer, root integer) on commit drop;
  create temporary table import_household (
    root integer, source_id text, name text, phone text, household_id bigint) on commit drop;
  create temporary table import_contact_point (person_id bigint, kind text, value text) on commit drop;
  create temporary table import_change (kind text, subject text, subject_id bigint) on commit drop;
end
$$

-- name: analyze
-- Lets the planner know the sizes of the staging tables, which autovacuum does not see.
-- Parameters: none
-- Columns: none
analyze import_id, import_use, import_organization, import_session, import_person, import_address, import_relationship,
  import_enrollment, import_assignment
