// What runs the factory in Azure: a Kubernetes cluster for deploy/kubernetes, and a Postgres for the Dagster instance.
// main.bicep comes first: its identities, registries and key vault are used here. docs/azure.md tells how.

targetScope = 'resourceGroup'

@description('Where everything is made.')
param location string = resourceGroup().location

@description('Staging registry that main.bicep has made; it also has the image of the factory.')
param stagingRegistryName string

@description('Key vault that main.bicep has made; it gets the password of the database.')
param keyVaultName string

@description('Name of the Postgres server.')
param postgresName string

@description('Password of the database user dagster.')
@secure()
@minLength(16)
param postgresPassword string

@description('Version of Postgres.')
param postgresVersion string = '17'

@description('Size of the machines of the cluster. Builds and tests run in ACR Tasks and Azure ML, so these only coordinate.')
param machineSize string = 'Standard_D4s_v5'

@description('Most machines of the cluster; at least two are kept.')
@minValue(2)
param maxMachines int = 5

@description('Namespace and service account of runs in deploy/kubernetes, which sign in as the identity that builds.')
param runsAccount string = 'system:serviceaccount:aml-images:aml-images-runs'

@description('The same of the runs that release, roll back and withdraw, which sign in as the identity that releases.')
param releasesAccount string = 'system:serviceaccount:aml-images:aml-images-releases'

var roles = {
  acrPull: '7f951dda-4ed3-4680-a7ca-43fe172d538d'
  networkContributor: '4d97b98b-1d4f-495f-ae58-64e0a4f9b6a5'
}

resource builder 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: 'aml-images-builder'
}

resource releaser 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: 'aml-images-releaser'
}

resource staging 'Microsoft.ContainerRegistry/registries@2023-07-01' existing = {
  name: stagingRegistryName
}

resource network 'Microsoft.Network/virtualNetworks@2024-01-01' = {
  name: 'aml-images'
  location: location
  properties: {
    addressSpace: {
      addressPrefixes: ['10.20.0.0/16']
    }
  }
}

resource clusterSubnet 'Microsoft.Network/virtualNetworks/subnets@2024-01-01' = {
  parent: network
  name: 'cluster'
  properties: {
    addressPrefix: '10.20.0.0/20'
  }
}

resource postgresSubnet 'Microsoft.Network/virtualNetworks/subnets@2024-01-01' = {
  parent: network
  name: 'postgres'
  properties: {
    addressPrefix: '10.20.16.0/28'
    delegations: [
      {
        name: 'postgres'
        properties: {
          serviceName: 'Microsoft.DBforPostgreSQL/flexibleServers'
        }
      }
    ]
  }
  dependsOn: [clusterSubnet]
}

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: '${postgresName}.private.postgres.database.azure.com'
  location: 'global'
}

resource zoneLink 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = {
  parent: zone
  name: 'aml-images'
  location: 'global'
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: network.id
    }
  }
}

resource postgres 'Microsoft.DBforPostgreSQL/flexibleServers@2024-08-01' = {
  name: postgresName
  location: location
  sku: {
    name: 'Standard_B2s'
    tier: 'Burstable'
  }
  properties: {
    version: postgresVersion
    administratorLogin: 'dagster'
    administratorLoginPassword: postgresPassword
    storage: {
      storageSizeGB: 64
      autoGrow: 'Enabled'
    }
    backup: {
      backupRetentionDays: 14
      geoRedundantBackup: 'Disabled'
    }
    network: {
      delegatedSubnetResourceId: postgresSubnet.id
      privateDnsZoneArmResourceId: zone.id
    }
  }
  dependsOn: [zoneLink]
}

resource database 'Microsoft.DBforPostgreSQL/flexibleServers/databases@2024-08-01' = {
  parent: postgres
  name: 'dagster'
  properties: {
    charset: 'UTF8'
  }
}

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' existing = {
  name: keyVaultName
}

resource password 'Microsoft.KeyVault/vaults/secrets@2023-07-01' = {
  parent: vault
  name: 'postgres-password'
  properties: {
    value: postgresPassword
  }
}

resource clusterIdentity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'aml-images-cluster'
  location: location
}

resource clusterJoins 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(clusterSubnet.id, clusterIdentity.id, roles.networkContributor)
  scope: clusterSubnet
  properties: {
    principalId: clusterIdentity.properties.principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.networkContributor)
  }
}

resource cluster 'Microsoft.ContainerService/managedClusters@2024-09-01' = {
  name: 'aml-images'
  location: location
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${clusterIdentity.id}': {}
    }
  }
  sku: {
    name: 'Base'
    tier: 'Standard'
  }
  properties: {
    dnsPrefix: 'aml-images'
    enableRBAC: true
    disableLocalAccounts: true
    aadProfile: {
      managed: true
      enableAzureRBAC: true
    }
    oidcIssuerProfile: {
      enabled: true
    }
    securityProfile: {
      workloadIdentity: {
        enabled: true
      }
    }
    networkProfile: {
      networkPlugin: 'azure'
      networkPluginMode: 'overlay'
      networkPolicy: 'cilium'
      networkDataplane: 'cilium'
      serviceCidr: '10.30.0.0/16'
      dnsServiceIP: '10.30.0.10'
    }
    agentPoolProfiles: [
      {
        name: 'images'
        mode: 'System'
        vmSize: machineSize
        count: 2
        minCount: 2
        maxCount: maxMachines
        enableAutoScaling: true
        vnetSubnetID: clusterSubnet.id
      }
    ]
  }
  dependsOn: [clusterJoins]
}

resource runsAreTheBuilder 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = {
  parent: builder
  name: 'aml-images-runs'
  properties: {
    issuer: cluster.properties.oidcIssuerProfile.issuerURL
    subject: runsAccount
    audiences: ['api://AzureADTokenExchange']
  }
}

resource releasesAreTheReleaser 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = {
  parent: releaser
  name: 'aml-images-releases'
  properties: {
    issuer: cluster.properties.oidcIssuerProfile.issuerURL
    subject: releasesAccount
    audiences: ['api://AzureADTokenExchange']
  }
}

resource clusterPulls 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(staging.id, cluster.id, roles.acrPull)
  scope: staging
  properties: {
    principalId: cluster.properties.identityProfile.kubeletidentity.objectId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.acrPull)
  }
}

@description('For `az aks get-credentials --name`.')
output clusterName string = cluster.name

@description('For PGHOST.')
output postgresHost string = postgres.properties.fullyQualifiedDomainName
