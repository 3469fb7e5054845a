-- Returns the subjects that divide the candidates into :ranges ranges of about as many each, from a sample of them.
-- Parameters: ranges, percent (of the channels, that are looked at)
-- Columns: ends (one less than there are ranges; null where the sample is empty)
select percentile_disc(array(select n::float8 / :ranges::integer from generate_series(1, :ranges::integer - 1) n))
  within group (order by subject_id) as ends
from all_channels tablesample bernoulli (:percent::real) repeatable (1)
where denied_by is null
