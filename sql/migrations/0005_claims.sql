-- A run that is begun over and over, because its worker dies of it each time, ends after so many times.

alter table batch_run
  -- How often it was claimed since it last got further. A worker that gives it back in order takes its claim back.
  add column claims smallint not null default 0;
