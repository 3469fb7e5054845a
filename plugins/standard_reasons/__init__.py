"""The contact reasons that every district has (D3)."""

from gql_server.hooks import ContactReason, hookimpl


@hookimpl
def contact_reasons() -> list[ContactReason]:
    return [
        ContactReason("EMERGENCY", "Emergency", "Something is wrong at school now."),
        ContactReason("ATTENDANCE", "Attendance", "A student was absent or late."),
        ContactReason("BEHAVIOR", "Behavior", "A student was involved in a behavior incident."),
        ContactReason(
            "STAFF", "Staff", "A behavior referral got a resolution; for people with a district assignment."
        ),
        ContactReason("GENERAL", "General", "Whatever the district or a school calls general."),
        ContactReason(
            "FOOD_SERVICE", "Food service", "The balance of a food service account, and low balances."
        ),
        ContactReason("PRIORITY", "Priority", "A message that its sender marked as high priority."),
        ContactReason(
            "TEACHER", "Teacher", "From a teacher: failing grades, missing assignments, class announcements."
        ),
    ]
