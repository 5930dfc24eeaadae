"""Whose clock decides when somebody may be mailed. Pure.

The contact's own zone; else that of its country, if all of the country shows the same
time; else the stream's; else the server's, which is UTC like everything on it.
"""

from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

# The attribute of a contact that names its country, by ISO 3166-1 alpha-2.
COUNTRY = "country"

# Countries all of whose zones show the same time from 2025 to 2027 (zone.tab of tzdata),
# by region of the name: DE=Berlin under Europe is Europe/Berlin.
_TABLE = """
Africa: AO=Luanda BF=Ouagadougou BI=Bujumbura BJ=Porto-Novo BW=Gaborone CF=Bangui CG=Brazzaville CI=Abidjan
  CM=Douala DJ=Djibouti DZ=Algiers EG=Cairo EH=El_Aaiun ER=Asmara ET=Addis_Ababa GA=Libreville GH=Accra
  GM=Banjul GN=Conakry GQ=Malabo GW=Bissau KE=Nairobi LR=Monrovia LS=Maseru LY=Tripoli MA=Casablanca ML=Bamako
  MR=Nouakchott MW=Blantyre MZ=Maputo NA=Windhoek NE=Niamey NG=Lagos RW=Kigali SD=Khartoum SL=Freetown SN=Dakar
  SO=Mogadishu SS=Juba ST=Sao_Tome SZ=Mbabane TD=Ndjamena TG=Lome TN=Tunis TZ=Dar_es_Salaam UG=Kampala
  ZA=Johannesburg ZM=Lusaka ZW=Harare
America: AG=Antigua AI=Anguilla AR=Argentina/Buenos_Aires AW=Aruba BB=Barbados BL=St_Barthelemy BO=La_Paz
  BQ=Kralendijk BS=Nassau BZ=Belize CO=Bogota CR=Costa_Rica CU=Havana CW=Curacao DM=Dominica DO=Santo_Domingo
  GD=Grenada GF=Cayenne GP=Guadeloupe GT=Guatemala GY=Guyana HN=Tegucigalpa HT=Port-au-Prince JM=Jamaica
  KN=St_Kitts KY=Cayman LC=St_Lucia MF=Marigot MQ=Martinique MS=Montserrat NI=Managua PA=Panama PE=Lima
  PM=Miquelon PR=Puerto_Rico PY=Asuncion SR=Paramaribo SV=El_Salvador SX=Lower_Princes TC=Grand_Turk
  TT=Port_of_Spain UY=Montevideo VC=St_Vincent VE=Caracas VG=Tortola VI=St_Thomas
Arctic: SJ=Longyearbyen
Asia: AE=Dubai AF=Kabul AM=Yerevan AZ=Baku BD=Dhaka BH=Bahrain BN=Brunei BT=Thimphu CY=Nicosia GE=Tbilisi
  HK=Hong_Kong IL=Jerusalem IN=Kolkata IQ=Baghdad IR=Tehran JO=Amman JP=Tokyo KG=Bishkek KH=Phnom_Penh
  KP=Pyongyang KR=Seoul KW=Kuwait KZ=Almaty LA=Vientiane LB=Beirut LK=Colombo MM=Yangon MO=Macau MY=Kuala_Lumpur
  NP=Kathmandu OM=Muscat PH=Manila PK=Karachi PS=Gaza QA=Qatar SA=Riyadh SG=Singapore SY=Damascus TH=Bangkok
  TJ=Dushanbe TL=Dili TM=Ashgabat TW=Taipei UZ=Samarkand VN=Ho_Chi_Minh YE=Aden
Atlantic: BM=Bermuda CV=Cape_Verde FK=Stanley FO=Faroe GS=South_Georgia IS=Reykjavik SH=St_Helena
Europe: AD=Andorra AL=Tirane AT=Vienna AX=Mariehamn BA=Sarajevo BE=Brussels BG=Sofia BY=Minsk CH=Zurich
  CZ=Prague DE=Berlin DK=Copenhagen EE=Tallinn FI=Helsinki FR=Paris GB=London GG=Guernsey GI=Gibraltar GR=Athens
  HR=Zagreb HU=Budapest IE=Dublin IM=Isle_of_Man IT=Rome JE=Jersey LI=Vaduz LT=Vilnius LU=Luxembourg LV=Riga
  MC=Monaco MD=Chisinau ME=Podgorica MK=Skopje MT=Malta NL=Amsterdam NO=Oslo PL=Warsaw RO=Bucharest RS=Belgrade
  SE=Stockholm SI=Ljubljana SK=Bratislava SM=San_Marino TR=Istanbul VA=Vatican
Indian: CC=Cocos CX=Christmas IO=Chagos KM=Comoro MG=Antananarivo MU=Mauritius MV=Maldives RE=Reunion SC=Mahe
  TF=Kerguelen YT=Mayotte
Pacific: AS=Pago_Pago CK=Rarotonga FJ=Fiji GU=Guam MH=Majuro MP=Saipan NC=Noumea NF=Norfolk NR=Nauru NU=Niue
  PN=Pitcairn PW=Palau SB=Guadalcanal TK=Fakaofo TO=Tongatapu TV=Funafuti VU=Efate WF=Wallis WS=Apia
"""


def _countries() -> dict[str, str]:
    found: dict[str, str] = {}
    region = ""
    for word in _TABLE.split():
        if word.endswith(":"):
            region = word.removesuffix(":")
        else:
            country, _, place = word.partition("=")
            found[country] = f"{region}/{place}"
    return found


COUNTRIES = _countries()


class Zone(msgspec.Struct, frozen=True):
    """A clock on the wall, and whose it is: contact, country, stream or server."""

    clock: ZoneInfo
    whose: str

    def __str__(self) -> str:
        return f"zone {self.clock.key}, the {self.whose}'s"


SERVER = Zone(ZoneInfo("UTC"), "server")


def zone_of(contact: str | None, country: object, stream: str) -> Zone:
    """Of a contact with this zone and this country, if any, on a stream with this zone; '' is none."""
    return _zone_of(contact or "", country if isinstance(country, str) else "", stream)


@lru_cache(maxsize=4096)
def _zone_of(contact: str, country: str, stream: str) -> Zone:
    names = ((contact, "contact"), (COUNTRIES.get(country.upper(), ""), "country"), (stream, "stream"))
    return next((Zone(clock, whose) for name, whose in names if name and (clock := _clock(name))), SERVER)


def _clock(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        # OSError: the name of a folder, such as 'Europe'.
        return None
