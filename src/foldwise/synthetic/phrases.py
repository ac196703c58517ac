"""What the made-up complaints are made of: products, their events, and the sentences around them.

In: nothing. Out: tuples of alternatives that synthetic.py draws from, by family, by product, and
for all alike. Everything is written for this file, as one text with a slash between alternatives,
so that a reader sees phrases and not punctuation. `{amount}`, `{date}`, `{count}`, `{company}` and,
in CONTRASTS, `{yes}` and `{no}` are filled later.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """What products of one kind share."""

    companies: tuple[str, ...]
    issues: tuple[str, ...]
    sub_issues: tuple[str, ...]
    events: tuple[str, ...]


@dataclass(frozen=True)
class Topic:
    """A product: its family, and what it alone has."""

    family: str
    years: tuple[int, int]  # the CFPB renamed products in 2017 and 2023
    sub_products: tuple[str, ...]
    sub_issues: tuple[str, ...]
    events: tuple[str, ...]


def _family(companies: str, issues: str, sub_issues: str, events: str) -> Family:
    return Family(*(_parts(part) for part in (companies, issues, sub_issues, events)))


def _topic(family: str, years: str, sub_products: str, sub_issues: str, events: str) -> Topic:
    first, last = years.split("-")
    parts = (_parts(part) for part in (sub_products, sub_issues, events))
    return Topic(family, (int(first), int(last)), *parts)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("/"))


FAMILIES = {
    "bureaus": _family(
        "Trileaf Reports / Meridian Bureau / Nortrust Data",
        "Incorrect information on report / Problem with an investigation / Improper use of report",
        "Entry belongs to another person / Dispute was not answered / Balance or status is wrong"
        " / Report was pulled without permission",
        "the bureau kept an account that is not mine / my report shows a late mark from {date}"
        " / the dispute came back verified after {count} days / an inquiry I never allowed appeared"
        " / my score fell by {count} points",
    ),
    "debts": _family(
        "Larkspur Recovery / Granite Hill Associates / Oakbend Receivables",
        "Attempts to collect debt not owed / Written notification / Misleading statements",
        "No proof of the debt / Amount is wrong / Was already paid / Did not explain the terms",
        "someone from {company} asked for {amount} / they said I owe {amount} from {date}"
        " / I was offered a plan of {count} payments / the balance they quote keeps changing",
    ),
    "loans": _family(
        "Cedarline Servicing / Harrow Lending / Brightwater Loans",
        "Trouble during payment process / Struggling to pay / Dealing with lender or servicer",
        "Payment was not credited / Account information is wrong / Late fee charged in error"
        " / Denied help with payments / Balance at payoff is wrong",
        "the servicer put my payment of {amount} on the wrong balance / autopay took {amount} twice"
        " / the payoff quote rose to {amount} / my loan was sold to {company}"
        " / the interest was figured from {date}",
    ),
    "cards": _family(
        "Pinecrest Card Services / Azimuth Bank / Fairmont Issuing",
        "Problem with a purchase / Getting a card / Trouble using the card / Fees or interest",
        "Card was declined / Charge I did not make / Refund never posted / Unexpected fee on card",
        "the card was declined at a store / a charge of {amount} is not mine / the refund of"
        " {amount} never posted / the issuer mailed a new card to an old address",
    ),
    "banks": _family(
        "First Harborview Bank / Tallgrass Savings / Azimuth Bank",
        "Managing an account / Closing an account / Problem caused by low funds",
        "Account was closed / Deposit on hold / Overdraft and fees / Could not reach my money",
        "the bank held my deposit of {amount} / my account was locked on {date} / a fee of {amount}"
        " pushed the balance below zero / the bank closed my account",
    ),
    "transfers": _family(
        "Swiftlark Transfer / Coinwharf / Paybridge",
        "Fraud or scam / Money was not available when promised / Other transaction problem",
        "Money never arrived / Sent to the wrong person / Scam not refunded / ID check failed",
        "the money I sent never arrived / a stranger talked me into sending {amount}"
        " / the transaction of {amount} is still pending / they want another copy of my licence",
    ),
    "payday": _family(
        "Quickbrook Cash / Redfern Advance / Larkspur Recovery",
        "Charged fees or interest not expected / Problem with the payoff / Struggling to repay",
        "Interest I did not expect / Money taken at the wrong time / Loan I did not apply for",
        "the lender took {amount} from my account early / I have paid {amount} and still owe more"
        " / the interest comes to {count} percent / I rolled the loan over",
    ),
}


# The most frequent first. The names are the CFPB's own, from its lists of different years.
TOPICS = {
    "Credit reporting or other personal consumer reports": _topic(
        "bureaus",
        "2023-2026",
        "Credit reporting / Other personal consumer report",
        "Identity theft block refused / Tenant or job screening is wrong",
        "a tenant screening report named me as evicted / the background check cost me a job"
        " / my request to block identity theft items was refused / a data broker listed my"
        " relatives / the security freeze was lifted by someone else",
    ),
    "Debt collection": _topic(
        "debts",
        "2015-2026",
        "Medical debt / Credit card debt / I do not know",
        "Calls at work or at night / Threatened to sue",
        "a collector called my workplace / the collector never mailed a validation notice"
        " / a debt buyer reported me to the bureau / they threatened to garnish my wages"
        " / an old hospital bill went to collections",
    ),
    "Mortgage": _topic(
        "loans",
        "2015-2026",
        "Conventional home mortgage / FHA mortgage / Home equity loan",
        "Escrow or taxes / Foreclosure started",
        "the escrow account was short / they began to foreclose on my house / my refinance was"
        " never closed / the homeowners insurance was not paid / the appraisal of the home was low",
    ),
    "Checking or savings account": _topic(
        "banks",
        "2017-2026",
        "Checking account / Savings account",
        "Bonus was not paid / Mobile deposit problem",
        "the mobile deposit was returned / the new account bonus was never paid / my debit card was"
        " used at a cash machine / direct deposit of my wages went missing / the savings rate in"
        " the app was not honored",
    ),
    "Credit card": _topic(
        "cards",
        "2015-2026",
        "General-purpose card / Store card",
        "Billing dispute / APR or promotional rate",
        "the promotional APR ended early / my billing dispute was closed for the merchant"
        " / they charged the annual fee twice / my credit line was cut in half"
        " / the statement shows residual interest",
    ),
    "Credit reporting": _topic(
        "bureaus",
        "2015-2017",
        "Not stated",
        "Monitoring service billed me / Cannot get my report",
        "the monitoring subscription billed me again / the website would not give me my yearly"
        " report / the bureau asked for my dispute by mail / a bankruptcy that was dismissed is"
        " still listed / the score they sold me is not the one lenders see",
    ),
    "Student loan": _topic(
        "loans",
        "2015-2026",
        "Federal student loan / Private student loan",
        "Income-driven plan / Forgiveness was denied",
        "my income-driven plan was cancelled / the forgiveness count is missing {count} months"
        " / my school closed before I graduated / they put me in forbearance"
        " / my cosigner was not released",
    ),
    "Credit card or prepaid card": _topic(
        "cards",
        "2017-2023",
        "General-purpose card / Gift card / Government benefit card",
        "Rewards problem / Balance transfer",
        "the reward points were taken back / the gift card had no value / my balance transfer was"
        " charged as cash / the travel credit was refused / the sign-up offer was withdrawn",
    ),
    "Vehicle loan or lease": _topic(
        "loans",
        "2017-2026",
        "Loan / Lease",
        "Repossession / End of the lease",
        "my car was repossessed / the lease return inspection was unfair / the dealer never sent"
        " the title / the gap insurance refused to pay / they billed me for extra mileage",
    ),
    "Bank account or service": _topic(
        "banks",
        "2015-2017",
        "Checking account / Certificate of deposit / Cashing a check",
        "Teller made a mistake / Certificate of deposit",
        "the teller refused to cash my check / my certificate of deposit renewed by itself"
        " / a cashier's check was dishonored / the branch lost my safe deposit key"
        " / they posted the largest checks first",
    ),
    "Consumer Loan": _topic(
        "loans",
        "2015-2017",
        "Installment loan / Personal line of credit",
        "Rent-to-own terms / Add-on products",
        "the furniture store loan included a warranty / my personal line of credit was frozen"
        " / the rent-to-own contract hid the full price / a boat loan was opened with my name"
        " / they added credit insurance to the loan",
    ),
    "Money transfer, virtual currency, or money service": _topic(
        "transfers",
        "2017-2026",
        "Mobile or digital wallet / Domestic transfer / Check cashing",
        "App account frozen / Paid seller who vanished",
        "the payment app froze my balance / a seller took my app payment and vanished / my digital"
        " wallet was linked to a phone I do not own / the app sent it to an old number"
        " / the instant transfer took a week",
    ),
    "Payday loan, title loan, personal loan, or advance loan": _topic(
        "payday",
        "2023-2026",
        "Installment loan / Title loan / Earned wage access",
        "Title was kept / Advance app tips",
        "the title lender kept my pink slip / the advance app took a tip from my wages / an online"
        " installment lender hides behind a tribe / they want my car for a title loan"
        " / the app pulled my advance twice",
    ),
    "Prepaid card": _topic(
        "cards",
        "2015-2017",
        "General purpose card / Payroll card",
        "Reload was lost / Could not activate",
        "the reload pack was already used / my payroll card could not be activated / the funds I"
        " loaded at a register are gone / they took a monthly fee from my loaded balance"
        " / the card number on the pack was scratched",
    ),
    "Payday loan": _topic(
        "payday",
        "2015-2017",
        "Payday loan",
        "Post-dated check cashed / Storefront would not talk",
        "the storefront cashed my post-dated check / they lent me cash until payday"
        " / the shop added a fee each payday / the clerk at the counter tore up my receipt"
        " / the payday store renewed it without asking",
    ),
    "Money transfers": _topic(
        "transfers",
        "2015-2017",
        "International money transfer / Domestic transfer",
        "Agent paid someone else / Exchange rate changed",
        "the agent abroad paid it to someone else / my family could not pick up the remittance"
        " / the exchange rate at the counter changed / the wire office lost my control number"
        " / the receiving country was wrong on the form",
    ),
    "Debt or credit management": _topic(
        "debts",
        "2023-2026",
        "Debt settlement / Credit repair",
        "Settled nothing / Upfront fee",
        "the settlement program settled none of my debts / the credit repair company took a fee up"
        " front / my counselor stopped paying my creditors / they told me to stop paying my cards"
        " / the enrollment contract was never cancelled",
    ),
    "Virtual currency": _topic(
        "transfers",
        "2015-2017",
        "Exchange / Wallet",
        "Coins missing / Wallet locked",
        "my coins left the wallet / the exchange stopped all withdrawals / the bitcoin address was"
        " changed / my two-factor code for the exchange was reset / the token sale was cancelled",
    ),
}


ANY_SUB_ISSUES = _parts("Poor customer service / Confusing disclosures / Problem with fees / Other")


# Both events stand in the same words in both orders; which one happened is the product.
CONTRASTS = _parts(
    "I first believed that {no}, but what happened is that {yes}"
    " / it is not true that {no}; the truth is that {yes}"
    " / my complaint is that {yes}, and they answered as if it were that {no}"
    " / they keep writing that {no}, when I have said that {yes}"
    " / a friend wrote to you that {no}, while for me {yes}"
    " / that {yes} is my problem, and that {no} is not"
)


LEADS = _parts(
    " / in short, / as I said before, / on {date} / this time / again / after {count} days"
    " / to my surprise / without any warning / as far as I can tell / on top of that"
)


TAILS = _parts(
    " / and nobody told me / for the second time / although I have proof / and {company} knows it"
    " / while I was out of work / as XXXX XXXX admitted on the phone / which cost me {amount}"
    " / and I only learned it on {date} / for no reason at all / right after the holidays"
)


OPENERS = _parts(
    " /  /  / I am writing about {company} / this is my complaint number {count} / to whom it may"
    " concern / please read all of this / I have been a customer of {company} since {date}"
    " / I tried to settle this with {company} before coming here / my name is XXXX XXXX and I live"
    " in XXXX"
)


ASKS = _parts(
    " /  /  / please help me / I want {amount} back / I want a written apology / I expect an answer"
    " within {count} days / please look into {company} / I ask that this be corrected / I will"
    " talk to a lawyer next / somebody has to stop them"
)


COMMON = _parts(
    "I called {count} times and was on hold for {count} minutes each time / the agent, a Mr. XXXX,"
    " was rude and hung up / I sent letters on {date} and {date} and got no reply / they told me"
    " to wait {count} business days / a supervisor promised to call me back and never did / I have"
    " attached copies of everything I sent them / this has caused me stress and sleepless nights"
    " / every person I talk to at {company} gives me another answer / I had to borrow {amount} from"
    " my sister XXXX / I spoke with XXXX at extension XXXX and then with XXXX XXXX in another"
    " department / my records show a different story than theirs / their letter of {date} makes no"
    " sense to me / I have always paid what I owe, and on time / I lost half a day of work at XXXX"
    " because of this / the website says one thing and the paper I signed says another / when I"
    " asked for it in writing they refused / I am a single parent of {count} and cannot afford"
    " {amount} / I was transferred {count} times and then the line went dead / I recorded the call"
    " of {date} and will gladly share it / this went on from {date} to {date} / they closed my case"
    " number XXXX with no explanation / my wife and I are both over {count} years old / nobody at"
    " {company} has shown me a document that says so / I filed a police report in XXXX and gave"
    " them the number / I read the contract {count} times and it is not there"
)


COUNTS = ("two", "three", "4", "5", "seven", "9", "10", "12", "15", "20", "30", "45", "60", "90")


SIGNATURES = _parts(
    "to the office of XXXX / case XXXX / for XXXX XXXX / from XXXX / re / second copy"
)


# State -> some of its three-digit ZIP prefixes.
ZIP_PREFIXES = {
    "AL": (350, 352),
    "AZ": (850, 852),
    "CA": (900, 917, 941, 953),
    "CT": (60, 64),
    "FL": (328, 331, 335),
    "GA": (300, 303),
    "IL": (604, 606),
    "MA": (18, 21),
    "MI": (481, 482),
    "NC": (271, 282),
    "NJ": (70, 85),
    "NY": (100, 112, 117),
    "OH": (432, 441),
    "PA": (152, 191),
    "PR": (7, 9),
    "TX": (750, 770, 782),
    "VA": (223, 232),
    "WA": (980, 981),
}
