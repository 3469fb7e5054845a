"""Names, titles, phone numbers and email addresses for sample districts. All are invented or reserved for examples."""

FIRST_NAMES = (
    *("Ada", "Alan", "Amara", "Andre", "Anna", "Arjun", "Bea", "Ben", "Camila", "Carl", "Chen", "Clara"),
    *("Dana", "David", "Diego", "Elena", "Eli", "Emma", "Ester", "Felix", "Fatima", "Grace", "Hana", "Hugo"),
    *("Ines", "Isaac", "Ivan", "Jada", "Jonah", "June", "Kai", "Karim", "Kim", "Lara", "Leo", "Lin"),
    *("Lucia", "Malik", "Mara", "Mateo", "Maya", "Milo", "Nadia", "Nina", "Noah", "Nora", "Omar", "Oscar"),
    *("Pia", "Priya", "Quinn", "Rosa", "Ruben", "Sam", "Sara", "Sofia", "Tara", "Theo", "Uma", "Victor"),
    *("Wanda", "Xavier", "Yara", "Zoe"),
)
LAST_NAMES = (
    *("Abbott", "Adler", "Alvarez", "Amin", "Ash", "Baker", "Banks", "Barrera", "Becker", "Bell", "Birch"),
    *("Brooks", "Burke", "Castillo", "Chang", "Cole", "Costa", "Cruz", "Dale", "Delgado", "Diaz", "Doyle"),
    *("Egan", "Ellis", "Farah", "Field", "Fisher", "Flores", "Ford", "Garza", "Gibbs", "Gill", "Grant"),
    *("Hale", "Haddad", "Hansen", "Hart", "Hill", "Hoang", "Holt", "Ibarra", "Ito", "Jensen", "Joshi"),
    *("Kaya", "Keane", "Khan", "Kim", "Klein", "Lake", "Lane", "Larsen", "Lee", "Lopez", "Lund"),
    *("Marsh", "Meyer", "Mills", "Moreno", "Nash", "Nguyen", "Novak", "Okafor", "Olsen", "Ortiz", "Park"),
    *("Patel", "Petrov", "Poole", "Ramos", "Reed", "Rivera", "Rossi", "Ryan", "Santos", "Sato", "Shaw"),
    *("Silva", "Singh", "Stone", "Suarez", "Tran", "Vance", "Vega", "Wagner", "Walsh", "West", "Wolf"),
    *("Wong", "Wood", "Yilmaz", "Young", "Zamora", "Ziegler"),
)
TREES = ("Maple", "Oak", "Cedar", "Willow", "Aspen", "Birch", "Elm", "Juniper", "Linden", "Poplar", "Spruce")

LEVELS = {
    "Elementary": ("KG", "01", "02", "03", "04", "05"),
    "Middle": ("06", "07", "08"),
    "High": ("09", "10", "11", "12"),
}
"""The grades of each level of school."""

TITLES = ("Teacher", "Teacher", "Teacher", "Counselor", "Nurse", "Secretary", "Principal", "Bus Driver")
MOTHER, FATHER = "Mother", "Father"
OTHERS = ("Grandmother", "Grandfather", "Aunt", "Uncle")


def phone(number: int) -> str:
    """Return a phone number reserved for fiction, 555-0100 to 555-0199 of an area code. It repeats after 80,000."""
    scattered = number * 31_337 % 80_000  # the factors are coprime, so no number repeats before
    return f"{200 + scattered // 100}55501{scattered % 100:02d}"


def email(first: str, last: str, number: int, domain: str) -> str:
    """Return an email address in a domain reserved for examples."""
    return f"{first}.{last}{number}@{domain}".lower()
